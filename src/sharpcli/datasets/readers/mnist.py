"""MNIST: 60,000 training and 10,000 test images of handwritten digits, grey, 28x28 pixels, in 10 classes.

Reference: LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998.
"""

from sharpcli.datasets.torchvision_sets import torchvision_reader

load = torchvision_reader("MNIST", mean=(0.1307,), std=(0.3081,), num_classes=10)
