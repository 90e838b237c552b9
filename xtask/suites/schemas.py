"""Confluent's client for Python against the schema registry of Weft: its calls, and its serializers with their
deserializers for Avro, JSON Schema and Protobuf.

usage: schemas.py BASE_URL
"""

import json
import sys

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

URL = sys.argv[1]
registry = SchemaRegistryClient({"url": URL})
cases = []


def case(run):
    cases.append(run)
    return run


def refused(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except SchemaRegistryError as error:
        assert error.error_code == code, f"{error.error_code}, not {code}: {error}"
        return str(error)
    raise AssertionError(f"no {code}")


ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [{"name": "id", "type": "string"}, {"name": "total", "type": "long"}],
}


def avro(schema):
    return Schema(json.dumps(schema), "AVRO")


@case
def registering_and_finding():
    first = registry.register_schema("py-orders", avro(ORDER))
    assert registry.register_schema("py-orders", avro(ORDER)) == first
    assert registry.register_schema("py-other", avro(ORDER)) == first
    fresh = SchemaRegistryClient({"url": URL})
    assert json.loads(fresh.get_schema(first).schema_str) == ORDER
    found = fresh.lookup_schema("py-orders", avro(ORDER))
    assert (found.schema_id, found.version, found.subject) == (first, 1, "py-orders")
    assert "py-orders" in fresh.get_subjects()
    assert fresh.get_versions("py-orders") == [1]
    assert fresh.get_latest_version("py-orders").schema_id == first
    assert fresh.get_version("py-orders", 1).schema_id == first
    assert set(fresh.get_subjects_by_schema_id(first)) >= {"py-orders", "py-other"}
    assert ("py-orders", 1) in [(one.subject, one.version) for one in fresh.get_schema_versions(first)]
    assert set(fresh.get_schema_types()) == {"AVRO", "JSON", "PROTOBUF"}
    assert fresh.get_contexts() == ["."]


@case
def refusals():
    refused(40401, registry.get_versions, "py-none")
    refused(40402, registry.get_version, "py-orders", 99)
    refused(40403, registry.get_schema, 999999)
    refused(42201, registry.register_schema, "py-bad", avro("nonsense"))
    refused(42203, registry.set_compatibility, "py-orders", "SIDEWAYS")


@case
def compatibility():
    more = {**ORDER, "fields": ORDER["fields"] + [{"name": "note", "type": "string"}]}
    assert registry.test_compatibility("py-orders", avro(more)) is False
    said = refused(409, registry.register_schema, "py-orders", avro(more))
    assert "READER_FIELD_MISSING_DEFAULT_VALUE" in said and "/fields/2" in said, said
    assert registry.get_compatibility() == "BACKWARD"
    registry.set_compatibility("py-orders", "NONE")
    assert registry.get_compatibility("py-orders") == "NONE"
    assert registry.register_schema("py-orders", avro(more)) > 1
    assert registry.get_versions("py-orders") == [1, 2]
    registry.delete_config("py-orders")


@case
def deleting():
    assert registry.delete_version("py-orders", 2) == 2
    assert registry.delete_version("py-orders", 2, permanent=True) == 2
    assert registry.delete_subject("py-orders") == [1]
    refused(40404, registry.delete_subject, "py-orders")
    assert registry.delete_subject("py-orders", permanent=True) == [1]
    refused(40401, registry.get_versions, "py-orders")


@case
def modes():
    assert registry.get_global_mode() == "READWRITE"
    registry.update_mode("py-other", "READONLY")
    assert registry.get_mode("py-other") == "READONLY"
    refused(42205, registry.register_schema, "py-other", avro("string"))
    assert registry.delete_mode("py-other") == "READONLY"


def context(topic):
    return SerializationContext(topic, MessageField.VALUE)


@case
def avro_serializer():
    value = {"id": "7", "total": 1200}
    packed = AvroSerializer(registry, json.dumps(ORDER))(value, context("py-avro"))
    assert packed[0] == 0
    assert AvroDeserializer(SchemaRegistryClient({"url": URL}))(packed, context("py-avro")) == value
    # A reader with another schema.
    more = {**ORDER, "fields": ORDER["fields"] + [{"name": "note", "type": "string", "default": "-"}]}
    read = AvroDeserializer(SchemaRegistryClient({"url": URL}), json.dumps(more))
    assert read(packed, context("py-avro")) == {**value, "note": "-"}


@case
def avro_references():
    line = {"type": "record", "name": "Line", "namespace": "shop", "fields": [{"name": "count", "type": "int"}]}
    registry.register_schema("py-line", avro(line))
    cart = {"type": "record", "name": "Cart", "namespace": "shop", "fields": [{"name": "line", "type": "shop.Line"}]}
    schema = Schema(json.dumps(cart), "AVRO", [SchemaReference("shop.Line", "py-line", 1)])
    value = {"line": {"count": 3}}
    packed = AvroSerializer(registry, schema)(value, context("py-cart"))
    assert AvroDeserializer(SchemaRegistryClient({"url": URL}))(packed, context("py-cart")) == value
    refused(42206, registry.delete_version, "py-line", 1)


@case
def json_serializer():
    schema = json.dumps({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Order",
        "type": "object",
        "properties": {"id": {"type": "string"}, "total": {"type": "integer"}},
        "required": ["id"],
    })
    value = {"id": "7", "total": 1200}
    packed = JSONSerializer(schema, registry)(value, context("py-json"))
    read = JSONDeserializer(None, schema_registry_client=SchemaRegistryClient({"url": URL}))
    assert read(packed, context("py-json")) == value


def message_class():
    file = descriptor_pb2.FileDescriptorProto(name="order.proto", package="shop", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    file.message_type.add(name="Unused")
    order = file.message_type.add(name="Order")
    order.field.add(name="id", number=1, type=9, label=1)
    order.field.add(name="at", number=2, type=11, label=1, type_name=".google.protobuf.Timestamp")
    entry = order.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=5, label=1)
    order.field.add(name="counts", number=3, type=11, label=3, type_name=".shop.Order.CountsEntry")
    pool = descriptor_pool.DescriptorPool()
    stamp = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(stamp)
    pool.Add(stamp)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


@case
def protobuf_serializer():
    Order = message_class()
    value = Order(id="7", counts={"a": 1})
    value.at.seconds = 5
    settings = {"use.deprecated.format": False}
    packed = ProtobufSerializer(Order, registry, settings)(value, context("py-proto"))
    fresh = SchemaRegistryClient({"url": URL})
    read = ProtobufDeserializer(Order, settings, fresh)(packed, context("py-proto"))
    assert (read.id, read.counts["a"], read.at.seconds) == ("7", 1, 5)
    text = fresh.get_latest_version("py-proto-value").schema.schema_str
    assert "message Order" in text and "map<string, int32> counts = 3;" in text, text


failed = 0
for run in cases:
    try:
        run()
    except Exception as error:
        failed += 1
        print(f"{run.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
print(f"PASSED {len(cases) - failed}/{len(cases)}")
sys.exit(bool(failed))
