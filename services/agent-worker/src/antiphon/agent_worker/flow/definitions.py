"""The tools that a flow defines: a Python function, an HTTP request, or the tools of an MCP server."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from antiphon.agent_worker.flow.names import Name, Part, Seconds, Text, one_or_many

TOOL_NAME = r"^[A-Za-z0-9_-]{1,64}$"  # what models accept as the name of a function
MAX_RESULT_BYTES = 64 * 1024


class Filler(Part):
    """What the agent says while a tool takes long."""

    say: Text = Field(description="The text, like: One moment please.")
    after_seconds: Seconds = Field(default=2.0, le=60, description="How long the tool may take before it.")


class HttpRequest(Part):
    """An HTTP request. URL, headers and body may use {argument}, {secret.NAME} and other variables."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(default="GET", description="The method.")
    url: Text = Field(description="http:// or https://; values are escaped.")
    headers: dict[str, Text] = Field(default={}, description="Secrets are {secret.NAME}.")
    body: dict[str, Any] | None = Field(
        default=None, description="The JSON body; without it, the arguments that the URL does not use."
    )
    retries: int = Field(default=2, ge=0, le=5, description="Of GET, PUT and DELETE only: these are safe.")
    max_bytes: int = Field(default=MAX_RESULT_BYTES, ge=1, le=1 << 20, description="Of the response.")
    private: bool = Field(default=False, description="Whether the address may be in a private network.")


ToolNames = Annotated[  # as the server names them: not the names of a flow
    list[Annotated[str, Field(pattern=TOOL_NAME)]],
    Field(min_length=1),
    BeforeValidator(one_or_many),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    ),
]


class McpServer(Part):
    """An MCP server: a `url` (streamable HTTP), or a `command` that speaks on its standard input."""

    url: Text | None = Field(default=None, description="http:// or https://.")
    headers: dict[str, Text] = Field(default={}, description="Secrets are {secret.NAME}.")
    command: list[Text] | None = Field(default=None, min_length=1, description="A program and its arguments.")
    env: dict[str, Text] = Field(default={}, description="Variables of the command; {secret.NAME} too.")
    tools: ToolNames | None = Field(
        default=None, description="The tools that agents may call; all by default."
    )
    private: bool = Field(default=False, description="Whether the `url` may be in a private network.")

    @model_validator(mode="after")
    def _one(self) -> "McpServer":
        if (self.url is None) == (self.command is None):
            raise ValueError("an MCP server has either a `url` or a `command`")
        return self


class ToolDefinition(Part):
    """A tool: `python`, `http` or `mcp`."""

    python: Text | None = Field(
        default=None, description="A function with @function_tool, `module:function`."
    )
    http: HttpRequest | None = Field(default=None, description="A request.")
    mcp: McpServer | None = Field(default=None, description="A server with tools.")
    description: Text | None = Field(default=None, description="When the model calls it (`http`).")
    arguments: dict[str, Any] = Field(
        default={}, description="The properties of the arguments as JSON Schema (`http`)."
    )
    outputs: list[Name] = Field(default=[], description="Fields of the result that texts may use.")
    timeout_seconds: Seconds = Field(default=10.0, le=300, description="The longest time of a call.")
    filler: Filler | None = Field(default=None, description="What the agent says while it takes long.")
    personal: bool = Field(default=False, description="Whether results carry personal data.")

    @model_validator(mode="after")
    def _one(self) -> "ToolDefinition":
        given = [kind for kind in ("python", "http", "mcp") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a tool has one of python, http and mcp; this one has {' and '.join(given) or 'none'}"
            )
        if self.http is not None and self.description is None:
            raise ValueError("an http tool needs a `description`: the model reads when to call it")
        return self

    @property
    def kind(self) -> Literal["python", "http", "mcp"]:
        """What does the work."""
        return "python" if self.python is not None else "http" if self.http is not None else "mcp"
