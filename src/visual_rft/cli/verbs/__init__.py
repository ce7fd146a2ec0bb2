"""One light file per verb: its arguments and the call it makes; none of them imports torch before it has to."""
