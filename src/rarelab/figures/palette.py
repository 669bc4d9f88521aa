"""The colours of every picture and of the dashboard: Okabe and Ito's, told apart by colour-blind
readers, the dark ones first, which stay apart in grey print. Without yellow, which white swallows.
In lower case, as the colours of recorded runs are.
"""

BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
BLACK, AMBER, SKY = "#000000", "#e69f00", "#56b4e9"
PALETTE = (BLUE, ORANGE, GREEN, PINK, BLACK, AMBER, SKY)

GREY, DARK_GREY, PALE_GREY = "#6b6b6b", "#333333", "#e8e8e8"
"""What is no arm: chance and other intervals; the best possible and the undecided; backgrounds."""

PALE_AMBER, WHITE = "#f3e3c3", "#ffffff"
