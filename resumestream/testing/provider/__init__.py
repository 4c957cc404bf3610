"""The one scripted provider: a real HTTP/1.1 server that speaks four LLM providers' streams, misbehaves at an exact
byte when told to, and keeps a ledger of what was really asked, sent and billed.

It needs the standard library and h11 only, and imports nothing else of this package, so that no defect of the package
can hide in the meter that measures it. In a test it runs in a thread of its own, whatever loop the test has:

    with ScriptedProvider() as provider:
        provider.script(Script(tokens=50, hold_at=3))
        ...                                             # a client calls provider.url + "/v1/chat/completions"
        provider.wait_for(lambda calls: any(call.held for call in calls))
        provider.release()

As a process, `python -m resumestream.testing.provider --port 0`, the same is asked over HTTP: `POST /_script` with
`{"queue": [script, ...], "default": script}`, `POST /_release[?call=N]`, `POST /_reset`, `GET /_sent?call=N` (body
bytes), and `GET /_ledger[?calls=2&held=1&...&timeout_s=5]`, which waits until there are so many calls, or a field's sum
over them is that high, and answers 504 with the ledger when it does not come to that. A call's own script may also
travel with it, in the header `x-script`: as JSON, or as the name of a queue that was scripted before (`"name"` beside
`"queue"`).
"""

from .ledger import Call, Calls
from .script import Script, token
from .thread import ScriptedProvider

__all__ = ["Call", "Calls", "Script", "ScriptedProvider", "token"]
