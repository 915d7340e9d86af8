"""SVHN: 73,257 training and 26,032 test images of digits of house numbers, colour, 32x32 pixels, in 10 classes.

Reference: Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011.
"""

from sharpcli.datasets.torchvision_sets import torchvision_reader

load = torchvision_reader("SVHN", mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970), num_classes=10)
