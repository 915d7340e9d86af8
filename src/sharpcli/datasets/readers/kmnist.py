"""KMNIST: 60,000 training and 10,000 test images of cursive Japanese characters, grey, 28x28 pixels, in 10 classes.

Reference: Clanuwat et al., Deep Learning for Classical Japanese Literature, 2018, arXiv 1812.01718.
"""

from sharpcli.datasets.torchvision_sets import torchvision_reader

load = torchvision_reader("KMNIST", mean=(0.1918,), std=(0.3483,), num_classes=10)
