"""The numbers of the random streams; every use of random numbers has its own stream.

A generator is made from the seed, the number of the stream, and counters such as the update or the attempt:
`generator(seed, streams.EPOCH_ORDER, epoch)`. Tuples of different length give unrelated random numbers, so two streams may
have the same number if their counters differ in number, or if no command uses both. The number of a stream is never
changed, because results would change.
"""

from typing import Final

# Linear algebra.
KRYLOV_START: Final = 0  # First vector of a Krylov space, and each new start vector; counter: the draw.
TRACE_PROBES: Final = 1  # Directions of the trace in the complement of a Krylov space.
TRACE_CHECK: Final = 1  # A direction whose product is checked; counter: 1.
XTRACE_PROBES: Final = 2  # Directions of XTrace.
DENSITY_PROBES: Final = 3  # Starts of the quadrature.
COMPLEMENT_START: Final = 4  # Starts in the complement of the basis; counter: the attempt.
ORTHOGONALITY_SIGNS: Final = 11  # Signs that check all pairs of a basis; counter: its size.
LAYER_PROBES: Final = 13  # Directions of the traces of layers.
BLOCK_PROBES: Final = 36  # Starts of the quadratures of blocks; counter: the number of the block.

# Data.
SUBSET: Final = 7  # Samples of --samples.
BLOCK_ORDER: Final = 8  # Order of the samples in the blocks of --bn batch.
GROUPS: Final = 11  # Groups of samples.

# Checks of products, with seed 0: the same for every run.
VERIFICATION_PROBE: Final = 17
SOUNDNESS_PROBE: Final = 19  # Counter: the part.
ROUNDING_SAMPLES: Final = 23
ROUNDING_SIGNS: Final = 23  # Counter: 1.

# Measures of sharpness.
SUBSPACE: Final = 1  # Columns of Keskar's random subspace; counter: the draw.
BOX_START: Final = 2  # Starts of L-BFGS-B; counters: the draw, the attempt.
NOISE_DIRECTIONS: Final = 21  # Counter: the sample.
ASCENT_START: Final = 22  # Counter before the stream: the draw, if there are several; after it: the attempt.
BATCH_DIVISION: Final = 23  # Samples of each batch of m-sharpness.
FILTER_DIRECTIONS: Final = 24  # Counter: the sample.
POSTERIOR_DIRECTIONS: Final = 25  # Directions of the PAC-Bayes bound; counter: the sample.
LANGEVIN_NOISE: Final = 26  # Counters: the chain, or the trial run plus 1; whether it is a trial run.
LANGEVIN_BATCHES: Final = 27  # The same counters.

# Paths and planes.
PLANE_AXES: Final = 31  # Counter: the axis.
BEZIER: Final = 33  # Points and batches that train the control point.
HEAD_MATRICES: Final = 35  # Matrices of reparam --attention; counters: the layer, the head and whether it is for values.
ALIGNMENT: Final = 34  # Order in which sets of units are matched.

# Training.
EPOCH_ORDER: Final = 3  # Order of the samples; counter: the epoch.
FIXED_ORDER: Final = 5  # Order of the samples, drawn once for all epochs.
REPLACEMENT: Final = 6  # Samples drawn with replacement; counter: the update.
AUGMENTATION: Final = 12  # Counters: the update, the position of the augmentation.
EXAMPLE_NOISE: Final = 13  # Counter: the update.
COORDINATE_NOISE: Final = 14  # Counter: the update.
ADDITIVE_NOISE: Final = 15  # Counter: the update.
