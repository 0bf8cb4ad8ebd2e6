//! What a build says of itself in the environment.

/// The build that a step belongs to. Nothing here is to be relied on: one-off builds lack the job and pipeline, tasks have
/// nothing but the external URL, and `nodectl` runs outside of any build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildEnv {
    /// `BUILD_ID`: a number that is unique on one Concourse.
    pub id: Option<String>,
    /// `BUILD_NAME`: the number that people see.
    pub name: Option<String>,
    /// `BUILD_TEAM_NAME`.
    pub team: Option<String>,
    /// `BUILD_PIPELINE_NAME`.
    pub pipeline: Option<String>,
    /// `BUILD_PIPELINE_INSTANCE_VARS`: JSON, of an instanced pipeline.
    pub instance_vars: Option<String>,
    /// `BUILD_JOB_NAME`.
    pub job: Option<String>,
    /// `BUILD_CREATED_BY`: of a put that asks for it.
    pub created_by: Option<String>,
    /// `BUILD_URL`.
    pub url: Option<String>,
    /// `ATC_EXTERNAL_URL`.
    pub external_url: Option<String>,
}

impl BuildEnv {
    /// Of this process.
    pub fn read() -> Self {
        Self::from_fn(|name| std::env::var(name).ok())
    }

    /// From anything that knows variables. What is empty counts as absent.
    pub fn from_fn(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        Self {
            id: variable("BUILD_ID"),
            name: variable("BUILD_NAME"),
            team: variable("BUILD_TEAM_NAME"),
            pipeline: variable("BUILD_PIPELINE_NAME"),
            instance_vars: variable("BUILD_PIPELINE_INSTANCE_VARS"),
            job: variable("BUILD_JOB_NAME"),
            created_by: variable("BUILD_CREATED_BY"),
            url: variable("BUILD_URL"),
            external_url: variable("ATC_EXTERNAL_URL"),
        }
    }

    /// For a log: `main/e2e/test #42`, as far as it is known.
    pub fn describe(&self) -> Option<String> {
        let place: Vec<&str> = [&self.team, &self.pipeline, &self.job]
            .into_iter()
            .filter_map(|part| part.as_deref())
            .collect();
        let name = self.name.as_deref()?;
        Some(if place.is_empty() {
            format!("build {name}")
        } else {
            format!("{} #{name}", place.join("/"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_and_a_one_off_build() {
        let of = |known: &[(&str, &str)]| {
            BuildEnv::from_fn(|name| {
                known
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        let job = of(&[
            ("BUILD_NAME", "42"),
            ("BUILD_TEAM_NAME", "main"),
            ("BUILD_PIPELINE_NAME", "e2e"),
            ("BUILD_JOB_NAME", "test"),
            ("BUILD_URL", ""),
        ]);
        assert_eq!(job.describe().as_deref(), Some("main/e2e/test #42"));
        assert_eq!(job.url, None);
        assert_eq!(of(&[("BUILD_NAME", "7")]).describe().as_deref(), Some("build 7"));
        assert_eq!(of(&[]).describe(), None);
    }
}
