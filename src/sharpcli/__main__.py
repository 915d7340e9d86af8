"""python -m sharpcli"""

from sharpcli.cli.app import main

main()
