"""The pictures of a run and of its arms, in one palette."""
