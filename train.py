"""python train.py arch=convnext recipe=deit"""

from minuteloop.build import main

if __name__ == "__main__":
    main()
