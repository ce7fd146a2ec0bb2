"""Several processes that are one run: who am I, what meets, what fails."""
