//! The compiled descriptor against the contract's table, in both directions.

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use std::collections::BTreeSet;

const PACKAGE: &str = "runtime.v1.";
const TABLE: &str = include_str!("../../../proto/cri/v1/contract.tsv");

fn scalar(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Double => "double",
        Type::Int64 => "int64",
        Type::Uint64 => "uint64",
        Type::Int32 => "int32",
        Type::Uint32 => "uint32",
        Type::Bool => "bool",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Message | Type::Enum => return field.type_name().trim_start_matches('.').to_owned(),
        other => return format!("{other:?}"),
    }
    .to_owned()
}

fn map_entry<'a>(
    owner: &'a DescriptorProto,
    field: &FieldDescriptorProto,
) -> Option<&'a DescriptorProto> {
    let name = field.type_name().rsplit('.').next()?;
    owner.nested_type.iter().find(|nested| {
        nested.name() == name && nested.options.as_ref().is_some_and(|o| o.map_entry())
    })
}

fn field_row(owner: &DescriptorProto, path: &str, field: &FieldDescriptorProto) -> String {
    assert!(field.oneof_index.is_none(), "{path}.{}: the contract has no oneof", field.name());
    let (label, kind) = match map_entry(owner, field) {
        Some(entry) => {
            ("map", format!("map<{},{}>", scalar(&entry.field[0]), scalar(&entry.field[1])))
        }
        None if field.label() == Label::Repeated => ("repeated", scalar(field)),
        None => ("singular", scalar(field)),
    };
    format!("field\t{path}\t{}\t{}\t{label}\t{kind}", field.name(), field.number())
}

fn enum_rows(path: &str, item: &EnumDescriptorProto, rows: &mut Vec<String>) {
    rows.extend(
        item.value.iter().map(|v| format!("enum\t{path}\t{}\t{}\t\t", v.name(), v.number())),
    );
}

fn message_rows(path: &str, message: &DescriptorProto, rows: &mut Vec<String>) {
    if message.field.is_empty() {
        rows.push(format!("message\t{path}\t\t\t"));
    }
    rows.extend(message.field.iter().map(|field| field_row(message, path, field)));
    for item in &message.enum_type {
        enum_rows(&format!("{path}.{}", item.name()), item, rows);
    }
    for nested in &message.nested_type {
        if !nested.options.as_ref().is_some_and(|o| o.map_entry()) {
            message_rows(&format!("{path}.{}", nested.name()), nested, rows);
        }
    }
}

fn compiled() -> Vec<String> {
    let set = FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap();
    let [file] = set.file.as_slice() else { panic!("one file expected") };
    assert_eq!(file.package(), PACKAGE.trim_end_matches('.'));
    let mut rows = Vec::new();
    for service in &file.service {
        for rpc in &service.method {
            assert!(!rpc.client_streaming());
            let kind = if rpc.server_streaming() { "stream" } else { "unary" };
            let (from, to) = (
                rpc.input_type().trim_start_matches('.'),
                rpc.output_type().trim_start_matches('.'),
            );
            rows.push(format!("rpc\t{}\t{}\t\t{kind}\t{from} -> {to}", service.name(), rpc.name()));
        }
    }
    for item in &file.enum_type {
        enum_rows(item.name(), item, &mut rows);
    }
    for message in &file.message_type {
        message_rows(message.name(), message, &mut rows);
    }
    rows
}

#[test]
fn descriptor_equals_the_contract() {
    let compiled = compiled();
    let ours: BTreeSet<&str> = compiled.iter().map(String::as_str).collect();
    let table: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
    let theirs: BTreeSet<&str> = table.iter().copied().collect();
    assert_eq!(ours.len(), compiled.len(), "duplicate rows in the descriptor");
    assert_eq!(theirs.len(), table.len(), "duplicate rows in the table");
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&theirs).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
    assert_eq!(table.iter().filter(|row| row.starts_with("rpc")).count(), 41);
}
