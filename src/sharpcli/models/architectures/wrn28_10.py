"""WRN-28-10: a residual network of 28 layers, widths 160, 320 and 640, with pre-activation blocks.

Reference: Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016; used by Nitanda et al., arXiv 2302.09376.

No dropout; 36,479,194 parameters on CIFAR-10. With activation=post, the blocks and the stem are as in
wrn16-4.
"""

from sharpcli.models.blocks.wide_resnet import wide_residual_net

build = wide_residual_net(depth=28, width=160, activation="pre")
