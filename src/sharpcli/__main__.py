"""python -m sharpcli"""

from sharpcli.cli.entry import main

if __name__ == "__main__":
    main()
