"""`python -m keras_audio_transfer VERB ...`: the same as the command `keras-audio-transfer`."""

from keras_audio_transfer.commands.main import main

if __name__ == "__main__":
    main()
