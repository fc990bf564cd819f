//! Compiles proto/ without protoc and writes three things: the prost and tonic code, the descriptor set (with our options, for
//! reflection and the gateway), and one enum of every message that travels on a topic.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context, Result};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let (protos, third_party) = (root.join("proto"), root.join("third_party"));
    println!("cargo:rerun-if-changed={}", protos.display());
    println!("cargo:rerun-if-changed={}", third_party.display());

    let mut files = Vec::new();
    list(&protos, &mut files)?;
    files.sort();
    let mut compiler = protox::Compiler::new([&protos, &third_party])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let mut config = prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(compiler.file_descriptor_set(), config)?;

    fs::write(out.join("messages.rs"), messages(&compiler.descriptor_pool())?)?;
    Ok(())
}

fn list(dir: &PathBuf, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// One variant a message that has a topic: its own option, else its file's.
fn messages(pool: &DescriptorPool) -> Result<String> {
    let mut variants = Vec::new();
    for file in pool.files() {
        let Some(of_file) = text_option(pool, &file.options(), "settle.common.v1.topic")? else { continue };
        for message in file.messages() {
            let topic = text_option(pool, &message.options(), "settle.common.v1.message_topic")?;
            variants.push((message, topic.unwrap_or_else(|| of_file.clone())));
        }
    }
    variants.sort_by(|(a, _), (b, _)| a.full_name().cmp(b.full_name()));

    let mut code = String::new();
    let mut each = |head: &str, arm: &dyn Fn(&MessageDescriptor, &str) -> String, tail: &str| -> Result<()> {
        writeln!(code, "{head}")?;
        for (message, topic) in &variants {
            writeln!(code, "{}", arm(message, topic))?;
        }
        writeln!(code, "{tail}")?;
        Ok(())
    };
    each(
        "/// Every message that travels on a topic.\n#[derive(Clone, Debug, PartialEq)]\npub enum Message {",
        &|m, _| format!("    {}({}),", m.name(), rust_path(m)),
        "}",
    )?;
    each(
        "impl Message {\n    /// The full protobuf name, as in the header `ce_type`.\n    #[must_use]\n    pub fn type_name(&self) -> &'static str {\n        match self {",
        &|m, _| format!("            Self::{}(_) => {:?},", m.name(), m.full_name()),
        "        }\n    }",
    )?;
    each(
        "    /// The topic that carries this message.\n    #[must_use]\n    pub fn topic(&self) -> &'static str {\n        match self {",
        &|m, topic| format!("            Self::{}(_) => {topic:?},", m.name()),
        "        }\n    }",
    )?;
    each(
        "    /// The protobuf bytes.\n    #[must_use]\n    pub fn encode(&self) -> Vec<u8> {\n        match self {",
        &|m, _| format!("            Self::{}(message) => prost::Message::encode_to_vec(message),", m.name()),
        "        }\n    }",
    )?;
    each(
        "    /// Reads the bytes of a message of this full name; `None` if the name is not known here.\n    pub fn decode(type_name: &str, bytes: &[u8]) -> Option<Result<Self, prost::DecodeError>> {\n        Some(match type_name {",
        &|m, _| format!("            {:?} => prost::Message::decode(bytes).map(Self::{}),", m.full_name(), m.name()),
        "            _ => return None,\n        })\n    }\n}",
    )?;
    for (message, _) in &variants {
        writeln!(
            code,
            "impl From<{path}> for Message {{\n    fn from(message: {path}) -> Self {{\n        Self::{name}(message)\n    }}\n}}",
            path = rust_path(message),
            name = message.name()
        )?;
    }
    Ok(code)
}

fn rust_path(message: &MessageDescriptor) -> String {
    format!("crate::{}::{}", message.parent_file().package_name().replace('.', "::"), message.name())
        .replace("crate::settle::", "crate::")
}

fn text_option(pool: &DescriptorPool, options: &DynamicMessage, name: &str) -> Result<Option<String>> {
    let extension = pool.get_extension_by_name(name).with_context(|| format!("option {name} is not declared"))?;
    if !options.has_extension(&extension) {
        return Ok(None);
    }
    let Value::String(text) = options.get_extension(&extension).into_owned() else {
        anyhow::bail!("option {name} is not a string")
    };
    Ok(Some(text))
}
