"""F2 of Keskar et al.: seven dense layers of 512 units with BatchNorm, designed for the speech data TIMIT.

Reference: Keskar et al., On Large-Batch Training for Deep Learning, ICLR 2017, Table 1 and appendix B.

2,780,085 parameters on TIMIT, with inputs (360,) and 1973 classes.
"""

from sharpcli.models.blocks.dense import dense_net

build = dense_net(depth=7, width=512)
