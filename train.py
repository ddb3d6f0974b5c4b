"""python train.py arch=convnext recipe=deit"""

from minuteloop.cli import main

if __name__ == "__main__":
    main()
