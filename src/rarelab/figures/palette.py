"""The colours of all figures and of the dashboard: Okabe and Ito's colour-blind-safe palette, dark
colours first, which remain distinct in greyscale. Without yellow, which is invisible on white. In
lower case, like the recorded colours of runs.
"""

BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
BLACK, AMBER, SKY = "#000000", "#e69f00", "#56b4e9"
PALETTE = (BLUE, ORANGE, GREEN, PINK, BLACK, AMBER, SKY)

GREY, DARK_GREY, PALE_GREY = "#6b6b6b", "#333333", "#e8e8e8"
"""For anything but arms: chance, secondary intervals; best possible, undecided; background."""

PALE_AMBER, WHITE = "#f3e3c3", "#ffffff"
