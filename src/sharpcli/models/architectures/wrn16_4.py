"""WRN-16-4: a residual network of 16 layers, widths 64, 128 and 256, with the post-activation blocks of Hoffer et al.

Reference: code of Hoffer et al., Train Longer, Generalize Better, NeurIPS 2017; Zagoruyko and Komodakis, BMVC 2016.

No dropout; 2,777,674 parameters on CIFAR-10. With activation=pre, the blocks and the stem are as in
Zagoruyko and Komodakis, with 2,748,890 parameters.
"""

from sharpcli.models.blocks.wide_resnet import wide_residual_net

build = wide_residual_net(depth=16, width=64, activation="post")
