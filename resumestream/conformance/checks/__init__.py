"""The checks, one file an area. Every file here is found by itself; a check is

    @check("RS-READ-03")
    def catch_up(ctx: Context) -> None:
        '''What is done and looked at, in one sentence.'''

and raises `Failed` through the answers it looks at, which say what was expected and what was seen.
"""
