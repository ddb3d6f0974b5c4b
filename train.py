"""python train.py arch=convnext recipe=deit"""

from minuteloop.command import main

if __name__ == "__main__":
    main()
