"""F1 of Keskar et al.: five dense layers of 512 units with BatchNorm, designed for MNIST.

Reference: Keskar et al., On Large-Batch Training for Deep Learning, ICLR 2017, Table 1 and appendix B.

1,462,794 parameters on MNIST.
"""

from sharpcli.models.blocks.dense import dense_net

build = dense_net(depth=5, width=512)
