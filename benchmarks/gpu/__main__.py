"""The entry: see the package."""

from benchmarks.gpu.session import main

main()
