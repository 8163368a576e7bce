from recipes import base


class TextGeneration(base.Recipe):
    pass
