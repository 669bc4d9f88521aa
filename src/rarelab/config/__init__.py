"""From overrides to objects: compose, check and build; also the identity of a run."""
