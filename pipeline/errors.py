"""The error tree of swath.

Every error that a user can meet is one of these; its text is one sentence that says where,
what was found and what is allowed. Knows nothing of the rest of the project. ``exit_status``
is what the command line ends with: 1 for a failure at work, 2 for bad input.
"""


class SwathError(Exception):
    """Base of all errors that swath raises on purpose."""

    exit_status = 1


class ConfigError(SwathError):
    """A rig file, option or combination of settings that cannot work; nothing was started."""

    exit_status = 2


class CameraError(SwathError):
    """The camera, or the process that drives it, does not do what was asked."""


class CameraLostError(CameraError):
    """The camera went away while it was in use (unplugged, or its process died)."""


class StreamError(SwathError):
    """The link between driver and engine broke, or a message on it is not what it should be."""


class ProtocolError(StreamError):
    """A message that is not of this protocol: wrong number, shape, size or type."""


class StreamTimeoutError(StreamError):
    """The peer on the link did not answer in time."""


class ContainerError(SwathError):
    """A container or ENVI file that is not what it says, or cannot do what is asked of it."""

    exit_status = 2


class HeaderError(ContainerError):
    """An ENVI header that cannot be read, or a value that its syntax cannot hold."""


class ReferenceMismatchError(ContainerError):
    """A white or black reference that is missing or does not fit the data."""


class StorageError(SwathError):
    """The disk is full or refuses to write; what was stored before is kept."""


class DeviceError(SwathError):
    """A GPU or another compute device that is missing, too small or failed."""
