"""argparse, so that it says what is wrong as everything else does. Without TensorFlow."""

import argparse
import sys

from keras_audio_transfer.errors import InputError, is_unknown, near_miss


class Parser(argparse.ArgumentParser):
    """Says what is wrong as everything else does: in one line, and what may have been meant."""

    def parse_args(self, args=None, namespace=None):
        """As argparse does, once no flag is unknown."""
        args = sys.argv[1:] if args is None else [*args]
        self._refuse_unknown_flags(args)
        return super().parse_args(args, namespace)

    def _refuse_unknown_flags(self, args):
        """Before argparse asks for arguments that are missing only because their flag is misspelt."""
        if {"-h", "--help"} & {*args}:
            return
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        for arg in args[: args.index("--")] if "--" in args else args:
            flag = arg.partition("=")[0]
            if flag.startswith("--") and " " not in arg and flag not in known:
                near = near_miss(flag, known)
                hint = f"did you mean {near}? " if near else ""
                raise InputError(f"unrecognized argument: {flag}; {hint}see --help")

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, is_unknown(value, action.choices))

    def error(self, message):
        """Raise what argparse would print as usage."""
        flag, _, what = message.removeprefix("argument ").rpartition(": ")
        if what == "expected one argument":
            what += f"; write {flag}=VALUE where it begins with -"
        raise InputError(f"{flag}{': ' if flag else ''}{what}{'' if what.endswith('?') else ';'} see --help")


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows every option's default, also where there is none, and the epilog as it was written."""

    def _get_help_string(self, action):
        no_option = not action.option_strings or action.nargs == 0 or action.required
        if no_option or action.help is argparse.SUPPRESS or "(default: " in action.help:
            return action.help
        default = action.default if isinstance(action.default, list | tuple) else [action.default]
        text = " ".join(str(value) for value in default if value is not None)
        return f"{action.help} (default: {text or 'none'})"


class DeprecatedFlag(argparse.Action):
    """A former name of a flag: it is still taken, and says on stderr what it is called today.

    `const` is the name of today; it and this one have the same `dest`.
    """

    def __call__(self, parser, namespace, values, option_string=None):
        """Take the value, and warn."""
        print(f"{parser.prog}: warning: {option_string} is deprecated; use {self.const}", file=sys.stderr)
        setattr(namespace, self.dest, values)
