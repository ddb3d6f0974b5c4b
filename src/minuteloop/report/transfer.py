def transfer(report):
    return None
