"""A trained model made ready to be used elsewhere, with a card that says what was measured."""
