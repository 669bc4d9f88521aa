"""From overrides to objects: compose, check, build, and say what makes two runs the same."""
