"""Write the schemas anew, after a change of the models."""

from . import write

if __name__ == "__main__":
    for path in write():
        print(path)
