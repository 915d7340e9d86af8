"""CIFAR-10: 50,000 training and 10,000 test photographs of 32x32 pixels, in colour, in 10 classes.

Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from sharpcli.datasets.torchvision_sets import torchvision_reader

load = torchvision_reader("CIFAR10", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), num_classes=10)
