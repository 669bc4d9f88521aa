"""Figures of runs and of arms, with one palette."""
