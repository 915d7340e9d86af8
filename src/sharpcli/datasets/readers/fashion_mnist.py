"""Fashion-MNIST: 60,000 training and 10,000 test images of clothes, grey, 28x28 pixels, in 10 classes.

Reference: Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017, arXiv 1708.07747.
"""

from sharpcli.datasets.torchvision_sets import torchvision_reader

load = torchvision_reader("FashionMNIST", mean=(0.2860,), std=(0.3530,), num_classes=10)
