"""ResNet-8 for images of the size of CIFAR: one block per stage, widths 16, 32 and 64, shortcuts without parameters.

Reference: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.
"""

from sharpcli.models.blocks.resnet import residual_net

build = residual_net(blocks=(1, 1, 1), width=16, shortcut="padded")
