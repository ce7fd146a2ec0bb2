"""How answers of a whole data set are summed up where that takes more than a mean."""
