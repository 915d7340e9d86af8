"""C3 of Keskar et al.: the same network as C1; the paper trains it on the 100 classes of CIFAR-100.

Reference: Keskar et al., On Large-Batch Training for Deep Learning, ICLR 2017, Table 1 and appendix B.
"""

from sharpcli.models.architectures import c1

build = c1.build  # The number of classes comes from the data.
