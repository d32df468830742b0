from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PinEvent(_message.Message):
    __slots__ = ("pin_id", "kind", "version", "image", "board_id", "title", "annotations", "category_weights", "buyable", "link", "event_time")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[PinEvent.Kind]
        KIND_CREATED: _ClassVar[PinEvent.Kind]
        KIND_UPDATED: _ClassVar[PinEvent.Kind]
        KIND_DELETED: _ClassVar[PinEvent.Kind]
    KIND_UNSPECIFIED: PinEvent.Kind
    KIND_CREATED: PinEvent.Kind
    KIND_UPDATED: PinEvent.Kind
    KIND_DELETED: PinEvent.Kind
    class Image(_message.Message):
        __slots__ = ("url", "inline")
        URL_FIELD_NUMBER: _ClassVar[int]
        INLINE_FIELD_NUMBER: _ClassVar[int]
        url: str
        inline: bytes
        def __init__(self, url: _Optional[str] = ..., inline: _Optional[bytes] = ...) -> None: ...
    class CategoryWeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PIN_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BOARD_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    BUYABLE_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    pin_id: str
    kind: PinEvent.Kind
    version: int
    image: PinEvent.Image
    board_id: str
    title: str
    annotations: _containers.RepeatedScalarFieldContainer[str]
    category_weights: _containers.ScalarMap[str, float]
    buyable: bool
    link: str
    event_time: int
    def __init__(self, pin_id: _Optional[str] = ..., kind: _Optional[_Union[PinEvent.Kind, str]] = ..., version: _Optional[int] = ..., image: _Optional[_Union[PinEvent.Image, _Mapping]] = ..., board_id: _Optional[str] = ..., title: _Optional[str] = ..., annotations: _Optional[_Iterable[str]] = ..., category_weights: _Optional[_Mapping[str, float]] = ..., buyable: bool = ..., link: _Optional[str] = ..., event_time: _Optional[int] = ...) -> None: ...

class SaveEvent(_message.Message):
    __slots__ = ("pin_id", "board_id", "kind", "event_time")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[SaveEvent.Kind]
        KIND_SAVED: _ClassVar[SaveEvent.Kind]
        KIND_UNSAVED: _ClassVar[SaveEvent.Kind]
    KIND_UNSPECIFIED: SaveEvent.Kind
    KIND_SAVED: SaveEvent.Kind
    KIND_UNSAVED: SaveEvent.Kind
    PIN_ID_FIELD_NUMBER: _ClassVar[int]
    BOARD_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    pin_id: str
    board_id: str
    kind: SaveEvent.Kind
    event_time: int
    def __init__(self, pin_id: _Optional[str] = ..., board_id: _Optional[str] = ..., kind: _Optional[_Union[SaveEvent.Kind, str]] = ..., event_time: _Optional[int] = ...) -> None: ...

class EventBox(_message.Message):
    __slots__ = ("x0", "y0", "x1", "y1")
    X0_FIELD_NUMBER: _ClassVar[int]
    Y0_FIELD_NUMBER: _ClassVar[int]
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    x0: float
    y0: float
    x1: float
    y1: float
    def __init__(self, x0: _Optional[float] = ..., y0: _Optional[float] = ..., x1: _Optional[float] = ..., y1: _Optional[float] = ...) -> None: ...

class EngagementEvent(_message.Message):
    __slots__ = ("pin_id", "kind", "user_id", "request_id", "query_pin_id", "query_object_index", "box", "position", "event_time")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[EngagementEvent.Kind]
        KIND_IMPRESSION: _ClassVar[EngagementEvent.Kind]
        KIND_CLOSEUP: _ClassVar[EngagementEvent.Kind]
        KIND_CLICK: _ClassVar[EngagementEvent.Kind]
        KIND_LONG_CLICK: _ClassVar[EngagementEvent.Kind]
        KIND_CROP: _ClassVar[EngagementEvent.Kind]
        KIND_SAVE: _ClassVar[EngagementEvent.Kind]
    KIND_UNSPECIFIED: EngagementEvent.Kind
    KIND_IMPRESSION: EngagementEvent.Kind
    KIND_CLOSEUP: EngagementEvent.Kind
    KIND_CLICK: EngagementEvent.Kind
    KIND_LONG_CLICK: EngagementEvent.Kind
    KIND_CROP: EngagementEvent.Kind
    KIND_SAVE: EngagementEvent.Kind
    PIN_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_PIN_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_OBJECT_INDEX_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    pin_id: str
    kind: EngagementEvent.Kind
    user_id: str
    request_id: str
    query_pin_id: str
    query_object_index: int
    box: EventBox
    position: int
    event_time: int
    def __init__(self, pin_id: _Optional[str] = ..., kind: _Optional[_Union[EngagementEvent.Kind, str]] = ..., user_id: _Optional[str] = ..., request_id: _Optional[str] = ..., query_pin_id: _Optional[str] = ..., query_object_index: _Optional[int] = ..., box: _Optional[_Union[EventBox, _Mapping]] = ..., position: _Optional[int] = ..., event_time: _Optional[int] = ...) -> None: ...

class TagEvent(_message.Message):
    __slots__ = ("pin_id", "kind", "object_index", "box", "product_pin_id", "expert_id", "event_time")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[TagEvent.Kind]
        KIND_TAGGED: _ClassVar[TagEvent.Kind]
        KIND_UNTAGGED: _ClassVar[TagEvent.Kind]
    KIND_UNSPECIFIED: TagEvent.Kind
    KIND_TAGGED: TagEvent.Kind
    KIND_UNTAGGED: TagEvent.Kind
    PIN_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OBJECT_INDEX_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_PIN_ID_FIELD_NUMBER: _ClassVar[int]
    EXPERT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    pin_id: str
    kind: TagEvent.Kind
    object_index: int
    box: EventBox
    product_pin_id: str
    expert_id: str
    event_time: int
    def __init__(self, pin_id: _Optional[str] = ..., kind: _Optional[_Union[TagEvent.Kind, str]] = ..., object_index: _Optional[int] = ..., box: _Optional[_Union[EventBox, _Mapping]] = ..., product_pin_id: _Optional[str] = ..., expert_id: _Optional[str] = ..., event_time: _Optional[int] = ...) -> None: ...
