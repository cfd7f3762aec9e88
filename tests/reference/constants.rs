//! Constants of the engine as its source has them, also those that nothing else may name.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use syn::{BinOp, Expr, Item, Lit};

/// The value of a constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    Time(Duration),
    Text(String),
}

/// The constants of a file below `engine/`, by name. Those of tests are left out.
pub(super) fn constants(file: &str) -> BTreeMap<String, Option<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("engine/{file}: {error}"));
    let mut found = BTreeMap::new();
    for item in syn::parse_file(&text).unwrap().items {
        if let Item::Const(item) = item {
            found.insert(item.ident.to_string(), value(&item.expr));
        }
    }
    found
}

/// One constant, which is a number, a time or a text.
#[track_caller]
pub(super) fn constant(file: &str, name: &str) -> Value {
    match constants(file).remove(name) {
        Some(Some(value)) => value,
        Some(None) => panic!("engine/{file}: {name} is no plain value"),
        None => panic!("engine/{file} has no constant {name}, which tests/reference names"),
    }
}

/// One that is a text.
#[track_caller]
pub(super) fn text(file: &str, name: &str) -> String {
    match constant(file, name) {
        Value::Text(text) => text,
        other => panic!("engine/{file}: {name} is {other:?}"),
    }
}

/// All files below a folder of `engine/`.
pub(super) fn files(folder: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine");
    let mut found = Vec::new();
    let mut left = vec![root.join(folder)];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What an expression of numbers comes to; `None` for what is not one.
fn value(expression: &Expr) -> Option<Value> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse().ok().map(Value::Number),
            Lit::Str(text) => Some(Value::Text(text.value())),
            _ => None,
        },
        Expr::Binary(binary) => {
            let (Value::Number(a), Value::Number(b)) = (value(&binary.left)?, value(&binary.right)?) else {
                return None;
            };
            match binary.op {
                BinOp::Mul(_) => Some(Value::Number(a * b)),
                BinOp::Add(_) => Some(Value::Number(a + b)),
                BinOp::Shl(_) => Some(Value::Number(a << b)),
                _ => None,
            }
        }
        Expr::Call(call) => {
            let Expr::Path(path) = &*call.func else { return None };
            let [duration, unit] = &path.path.segments.iter().collect::<Vec<_>>()[..] else { return None };
            let (true, Value::Number(number)) = (duration.ident == "Duration", value(call.args.first()?)?) else {
                return None;
            };
            let seconds = match unit.ident.to_string().as_str() {
                "from_millis" => return Some(Value::Time(Duration::from_millis(number))),
                "from_secs" => 1,
                "from_mins" => 60,
                "from_hours" => 3600,
                _ => return None,
            };
            Some(Value::Time(Duration::from_secs(number * seconds)))
        }
        _ => None,
    }
}
