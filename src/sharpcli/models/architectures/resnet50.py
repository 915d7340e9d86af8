"""ResNet-50 for images of the size of CIFAR: bottlenecks, 3x3 stem, no max-pooling, widths 64 to 512.

Reference: He et al., Deep Residual Learning, CVPR 2016, Table 1; stem and shortcuts: code of Geiping et al., ICLR 2022.

23,520,842 parameters on CIFAR-10. With shortcut=strided, the shortcuts are as in He et al.
"""

from sharpcli.models.blocks.resnet import residual_net

build = residual_net(blocks=(3, 4, 6, 3), width=64, shortcut="pooled", bottleneck=True)
