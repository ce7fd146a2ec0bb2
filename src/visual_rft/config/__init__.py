"""What a run is: fields, validation, flags, the configs of the package, and how they are described to people."""
