"""Branch coverage and mutation testing of the modules that decide whether content is right and may be written."""
