"""ResNet-44 for images of the size of CIFAR: seven blocks per stage, widths 16, 32 and 64.

Reference: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.

658,586 parameters on CIFAR-10. With shortcut=strided, as in the code of Hoffer et al., NeurIPS 2017: 661,338.
"""

from sharpcli.models.blocks.resnet import residual_net

build = residual_net(blocks=(7, 7, 7), width=16, shortcut="padded")
