"""The command line: the table of verbs, their parser, and one light file per verb."""
