//! The compiled interface against the facts of the CRI: the wire has to match exactly.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde_json::Value;

use super::v1::DESCRIPTOR;

fn facts() -> Value {
    serde_json::from_str(include_str!("../../tests/data/cri-v1.json")).unwrap()
}

fn compiled() -> prost_types::FileDescriptorProto {
    let set = FileDescriptorSet::decode(DESCRIPTOR).unwrap();
    set.file.into_iter().find(|file| file.package() == "runtime.v1").unwrap()
}

fn values_of(definition: &EnumDescriptorProto) -> BTreeMap<String, i64> {
    let values = definition.value.iter();
    values.map(|value| (value.name().to_owned(), i64::from(value.number()))).collect()
}

fn facts_of_enum(definition: &Value) -> BTreeMap<String, i64> {
    let values = definition.as_object().unwrap().iter();
    values.map(|(name, number)| (name.clone(), number.as_i64().unwrap())).collect()
}

/// The type as the facts write it.
fn type_of(message: &DescriptorProto, field: &FieldDescriptorProto) -> (String, bool) {
    use prost_types::field_descriptor_proto::{Label, Type};
    let short = |name: &str| name.rsplit('.').next().unwrap().to_owned();
    let scalar = |field: &FieldDescriptorProto| match field.r#type() {
        Type::String => "string".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Uint32 => "uint32".to_owned(),
        Type::Uint64 => "uint64".to_owned(),
        Type::Double => "double".to_owned(),
        Type::Message | Type::Enum => short(field.type_name()),
        other => panic!("no type of the CRI: {other:?}"),
    };
    let entry = message.nested_type.iter().find(|nested| {
        nested.options.as_ref().is_some_and(|options| options.map_entry())
            && short(field.type_name()) == nested.name()
    });
    if let Some(entry) = entry {
        return (format!("map<{}, {}>", scalar(&entry.field[0]), scalar(&entry.field[1])), false);
    }
    (scalar(field), field.label() == Label::Repeated)
}

#[test]
fn every_call_is_there() {
    let (facts, compiled) = (facts(), compiled());
    let services = facts["services"].as_object().unwrap();
    assert_eq!(services.len(), compiled.service.len());
    let mut calls = 0;
    for service in &compiled.service {
        let expected: Vec<_> = services[service.name()].as_array().unwrap().clone();
        let short = |name: &str| name.rsplit('.').next().unwrap().to_owned();
        for (method, fact) in service.method.iter().zip(&expected) {
            assert_eq!(method.name(), fact["rpc"]);
            assert_eq!(short(method.input_type()), fact["request"].as_str().unwrap());
            assert_eq!(short(method.output_type()), fact["response"].as_str().unwrap());
            assert!(!method.client_streaming());
            let streaming = fact["server_streaming"].as_bool().unwrap_or(false);
            assert_eq!(method.server_streaming(), streaming, "{}", method.name());
        }
        assert_eq!(service.method.len(), expected.len());
        calls += expected.len();
    }
    assert_eq!(calls, 43);
}

#[test]
fn every_field_is_there_with_number_and_type() {
    let (facts, compiled) = (facts(), compiled());
    let messages = facts["messages"].as_object().unwrap();
    assert_eq!(messages.len(), compiled.message_type.len());
    for message in &compiled.message_type {
        let fact = &messages[message.name()];
        let expected = fact["fields"].as_array().unwrap();
        assert_eq!(message.field.len(), expected.len(), "{}", message.name());
        for field in &message.field {
            let name = format!("{}.{}", message.name(), field.name());
            let fact = expected.iter().find(|fact| fact["name"] == field.name());
            let fact = fact.unwrap_or_else(|| panic!("{name} is not of the CRI"));
            assert_eq!(i64::from(field.number()), fact["number"].as_i64().unwrap(), "{name}");
            let (kind, repeated) = type_of(message, field);
            let kind_of_fact = fact["type"].as_str().unwrap().rsplit('.').next().unwrap();
            assert_eq!(kind, kind_of_fact, "{name}");
            assert_eq!(repeated, fact["repeated"].as_bool().unwrap_or(false), "{name}");
        }
        for nested in &message.enum_type {
            let expected = facts_of_enum(&fact["enums"][nested.name()]);
            assert_eq!(values_of(nested), expected, "{}", nested.name());
        }
    }
}

#[test]
fn every_enum_has_its_values() {
    let (facts, compiled) = (facts(), compiled());
    let enums = facts["enums"].as_object().unwrap();
    assert_eq!(enums.len(), compiled.enum_type.len());
    for definition in &compiled.enum_type {
        let expected = facts_of_enum(&enums[definition.name()]);
        assert_eq!(values_of(definition), expected, "{}", definition.name());
    }
}
