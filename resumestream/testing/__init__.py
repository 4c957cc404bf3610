from .provider import Call as Call
from .provider import Script as Script
from .provider import ScriptedProvider as ScriptedProvider
from .running import running as running
from .stores import check_log_store as check_log_store
