"""python -m minuteloop"""

from minuteloop.cli import main

main()
