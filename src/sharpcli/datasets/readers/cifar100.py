"""CIFAR-100: 50,000 training and 10,000 test photographs of 32x32 pixels, in colour, in 100 classes.

Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from sharpcli.datasets.torchvision_sets import torchvision_reader

load = torchvision_reader("CIFAR100", mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762), num_classes=100)
