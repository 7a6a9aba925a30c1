//! The rules by name.

use std::fmt;

macro_rules! rules {
    ($($name:ident: $text:literal,)*) => {
        /// A rule. Its name is what `# check=skip=` takes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $text] $name,)*
        }

        impl Rule {
            /// All rules.
            pub const ALL: &'static [Rule] = &[$(Rule::$name,)*];

            /// The name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What to do instead, in one sentence.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

rules! {
    StageNameCasing: "Stage names are lower case.",
    FromAsCasing: "AS has the case of its FROM.",
    NoEmptyContinuation: "No empty lines inside a continued instruction.",
    ConsistentInstructionCasing: "All instructions are in upper case, or all in lower case.",
    DuplicateStageName: "Every stage has a name of its own.",
    ReservedStageName: "Stages are not called scratch or context.",
    JSONArgsRecommended: "CMD and ENTRYPOINT in JSON form get signals from the runtime.",
    MaintainerDeprecated: "A label replaces MAINTAINER.",
    UndefinedArgInFrom: "FROM uses only arguments that are declared before it.",
    WorkdirRelativePath: "WORKDIR is absolute, whatever the base image has.",
    UndefinedVar: "Variables are defined before they are used.",
    MultipleInstructionsDisallowed: "Only the last CMD, ENTRYPOINT or HEALTHCHECK of a stage counts.",
    LegacyKeyValueFormat: "Names and values are joined by an equals sign.",
    InvalidBaseImagePlatform: "The base image is made for the platform that is built.",
    RedundantTargetPlatform: "The target platform is what FROM takes anyway.",
    SecretsUsedInArgOrEnv: "Secrets belong into RUN --mount=type=secret: arguments and variables stay in the image.",
    InvalidDefaultArgInFrom: "The defaults of arguments give a valid base image.",
    FromPlatformFlagConstDisallowed: "FROM --platform is a variable, so that others can build it too.",
    CopyIgnoredFile: "What is copied is not hidden by the ignore file.",
    InvalidDefinitionDescription: "A comment above a stage or argument begins with its name.",
    ExposeProtoCasing: "Protocols are lower case.",
    ExposeInvalidFormat: "EXPOSE has ports only: no address, no mapping.",
}

impl Rule {
    /// The rule of that name, in any case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.name().eq_ignore_ascii_case(name))
    }

    /// Off unless asked for.
    pub fn experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
