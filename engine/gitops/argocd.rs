//! What Argo CD tells its plugin, and what the plugin tells Argo CD of itself.
//!
//! An Application names parameters. Argo CD hands them over as JSON in `ARGOCD_APP_PARAMETERS`, and once more as
//! `PARAM_<NAME>`, where names that differ only in what is no letter fall together. Variables of `spec.source.plugin.env`
//! arrive as `ARGOCD_ENV_<NAME>`. (Argo CD, `docs/operator-manual/config-management-plugins.md`.)
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, InvalidName, MeshName};

/// The variable with all parameters, as JSON.
pub const PARAMETERS_VARIABLE: &str = "ARGOCD_APP_PARAMETERS";
/// Name of the plugin: of its socket, and of `spec.source.plugin.name`.
pub const PLUGIN: &str = "isthmus";
/// The parameters that an Application may set.
pub const PARAMETERS: [&str; 2] = ["cluster", "mesh"];
/// Most clusters that the announcement names.
const MAX_NAMED: usize = 40;

/// What an Application asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters {
    /// The cluster whose objects are wanted.
    pub cluster: Option<ClusterName>,
    /// The mesh that the checkout must hold.
    pub mesh: Option<MeshName>,
}

/// Parameters that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub enum ParameterError {
    /// The JSON cannot be read.
    Json(#[source] serde_json::Error),
    /// A parameter that the plugin does not have.
    Unknown { name: String },
    /// A parameter that occurs twice in the list.
    Twice { name: String },
    /// A parameter that is a list or a map.
    Shape { name: String },
    Value {
        /// Where it was said.
        source_name: String,
        /// What is wrong with it.
        source: InvalidName,
    },
    /// Two sources that disagree.
    Disagree {
        parameter: &'static str,
        one: String,
        /// Where it was said.
        one_source: String,
        /// Another value.
        other: String,
        /// Where that was said.
        other_source: String,
    },
}

impl Explain for ParameterError {
    fn explanation(&self) -> Explanation {
        let of = |message: String| Explanation::new(Code::InvalidArguments, message);
        match self {
            Self::Json(error) => of(format!("{PARAMETERS_VARIABLE} is no list of parameters: {error}")),
            Self::Unknown { name } => {
                of(format!("there is no parameter `{name}`")).hint("there are `cluster` and `mesh`")
            }
            Self::Twice { name } => of(format!("{PARAMETERS_VARIABLE} holds the parameter `{name}` twice")),
            Self::Shape { name } => of(format!("the parameter `{name}` is one text: give it as `string`")),
            Self::Value { source_name, source } => of(format!("{source_name}: {source}")),
            Self::Disagree { parameter, one, one_source, other, other_source } => {
                of(format!("the {parameter} is `{one}` by {one_source} and `{other}` by {other_source}"))
                    .hint("name it once")
            }
        }
    }
}

/// One parameter as Argo CD writes it.
#[derive(Deserialize)]
struct WireParameter {
    #[serde(default)]
    name: String,
    string: Option<String>,
    array: Option<Value>,
    map: Option<Value>,
}

impl Parameters {
    /// Reads them from the environment. `flag` is the cluster that the command line names. All that name one must agree;
    /// an empty text names none.
    pub fn read(flag: Option<&ClusterName>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, ParameterError> {
        let listed = match variable(PARAMETERS_VARIABLE) {
            Some(text) => listed(&text)?,
            None => BTreeMap::new(),
        };
        let given = |parameter: &'static str, flag: Option<String>| {
            let upper = parameter.to_ascii_uppercase();
            let mut given = vec![
                (format!("--{parameter}"), flag),
                (format!("the Application's parameter `{parameter}`"), listed.get(parameter).cloned()),
            ];
            for name in [format!("PARAM_{upper}"), format!("ARGOCD_ENV_{upper}")] {
                let value = variable(&name);
                given.push((format!("${name}"), value));
            }
            agreed(parameter, given)
        };
        Ok(Self { cluster: name(given("cluster", flag.map(ToString::to_string))?)?, mesh: name(given("mesh", None)?)? })
    }
}

fn listed(text: &str) -> Result<BTreeMap<String, String>, ParameterError> {
    // `null` is what no parameters are
    let parameters: Option<Vec<WireParameter>> = serde_json::from_str(text).map_err(ParameterError::Json)?;
    let mut listed = BTreeMap::new();
    for parameter in parameters.unwrap_or_default() {
        let name = parameter.name;
        if !PARAMETERS.contains(&name.as_str()) {
            return Err(ParameterError::Unknown { name });
        }
        let is_empty = |value: &Option<Value>| value.as_ref().is_none_or(Value::is_null);
        if !is_empty(&parameter.array) || !is_empty(&parameter.map) {
            return Err(ParameterError::Shape { name });
        }
        if listed.insert(name.clone(), parameter.string.unwrap_or_default()).is_some() {
            return Err(ParameterError::Twice { name });
        }
    }
    Ok(listed)
}

/// The one value that all sources give, with the first that gave it.
fn agreed(
    parameter: &'static str,
    given: Vec<(String, Option<String>)>,
) -> Result<Option<(String, String)>, ParameterError> {
    let mut found: Option<(String, String)> = None;
    for (source, value) in given {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        match &found {
            Some((one_source, one)) if *one != value => {
                return Err(ParameterError::Disagree {
                    parameter,
                    one: one.clone(),
                    one_source: one_source.clone(),
                    other: value,
                    other_source: source,
                });
            }
            Some(_) => {}
            None => found = Some((source, value)),
        }
    }
    Ok(found)
}

fn name<T: std::str::FromStr<Err = InvalidName>>(given: Option<(String, String)>) -> Result<Option<T>, ParameterError> {
    let parse = |(source, value): (String, String)| {
        value.parse().map_err(|error| ParameterError::Value { source_name: source, source: error })
    };
    given.map(parse).transpose()
}

/// The parameters in the form in which a plugin announces them, as a JSON text of one line. `clusters` are those that an
/// Application may name, `mesh` is the checkout's; neither has to be known.
pub fn announcement<'a>(mesh: Option<&MeshName>, clusters: impl ExactSizeIterator<Item = &'a ClusterName>) -> String {
    let count = clusters.len();
    let names: Vec<&str> = clusters.take(MAX_NAMED).map(ClusterName::as_str).collect();
    let mut which = String::from("The cluster whose objects this Application syncs");
    if !names.is_empty() {
        which.push_str(": one of ");
        which.push_str(&names.join(", "));
    }
    if count > names.len() {
        which.push_str(&format!(" and {} more", count - names.len()));
    }
    let cluster = json!({
        "name": "cluster", "title": "Cluster", "tooltip": which, "required": true,
        "itemType": "string", "collectionType": "string",
    });
    let mut own = json!({
        "name": "mesh", "title": "Mesh", "required": false, "itemType": "string", "collectionType": "string",
        "tooltip": "The mesh that the checkout must hold; where it holds another, nothing is generated",
    });
    if let (Some(mesh), Some(fields)) = (mesh, own.as_object_mut()) {
        fields.insert("string".to_owned(), mesh.as_str().into());
    }
    Value::from(vec![cluster, own]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<Parameters, String> {
        let flag = flag.map(|name| name.parse().unwrap());
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Parameters::read(flag.as_ref(), &find).map_err(|error| error.to_string())
    }

    fn east() -> Parameters {
        Parameters { cluster: Some("east".parse().unwrap()), mesh: None }
    }

    #[test]
    fn a_cluster_is_named_in_any_of_four_ways() {
        let list = r#"[{"name":"cluster","string":"east"}]"#;
        assert_eq!(read(Some("east"), &[]), Ok(east()));
        assert_eq!(read(None, &[(PARAMETERS_VARIABLE, list)]), Ok(east()));
        assert_eq!(read(None, &[("PARAM_CLUSTER", "east")]), Ok(east()));
        assert_eq!(read(None, &[("ARGOCD_ENV_CLUSTER", "east")]), Ok(east()));
        assert_eq!(read(Some("east"), &[(PARAMETERS_VARIABLE, list), ("PARAM_CLUSTER", "east")]), Ok(east()));
        assert_eq!(read(None, &[("ARGOCD_ENV_CLUSTER", ""), (PARAMETERS_VARIABLE, "null")]), Ok(Parameters::default()));
        let both = r#"[{"name":"mesh","string":"shop"},{"name":"cluster","string":"east","array":null}]"#;
        assert_eq!(read(None, &[(PARAMETERS_VARIABLE, both)]).unwrap().mesh.unwrap().as_str(), "shop");
    }

    #[test]
    fn what_cannot_be_followed_is_reported() {
        for (variables, message) in [
            (vec![(PARAMETERS_VARIABLE, "cluster=east")], "no list of parameters"),
            (vec![(PARAMETERS_VARIABLE, r#"[{"name":"clusters","string":"east"}]"#)], "no parameter `clusters`"),
            (vec![(PARAMETERS_VARIABLE, r#"[{"name":"cluster","array":["east"]}]"#)], "is one text"),
            (
                vec![(PARAMETERS_VARIABLE, r#"[{"name":"cluster","string":"a"},{"name":"cluster","string":"b"}]"#)],
                "twice",
            ),
            (vec![("PARAM_CLUSTER", "../east")], "$PARAM_CLUSTER"),
            (vec![("PARAM_CLUSTER", "east"), ("ARGOCD_ENV_CLUSTER", "west")], "`east` by $PARAM_CLUSTER and `west`"),
        ] {
            let error = read(None, &variables).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        assert!(read(Some("west"), &[("PARAM_CLUSTER", "east")]).unwrap_err().contains("--cluster"));
    }

    #[test]
    fn the_announcement_names_some_clusters_and_counts_the_rest() {
        let names: Vec<ClusterName> = (0..50).map(|number| format!("c{number:02}").parse().unwrap()).collect();
        let text = announcement(Some(&"shop".parse().unwrap()), names.iter());
        assert!(text.contains("c00, c01") && text.contains("c39 and 10 more") && text.contains(r#""string":"shop""#));
        let bare: Value = serde_json::from_str(&announcement(None, [].iter())).unwrap();
        assert_eq!(bare[0]["tooltip"], "The cluster whose objects this Application syncs");
    }
}
