// Restores a picture: example IN.ppm OUT.ppm, both of NAME_WIDTH x NAME_HEIGHT pixels (PPM, or PGM for grey).
//
//     cc -O2 -o example example.c -L. -lNAME -Wl,-rpath,'$ORIGIN'

#include "NAME.h"

#include <stdio.h>

static uint8_t in[NAME_HEIGHT * NAME_WIDTH * NAME_CHANNELS_IN], out[NAME_HEIGHT * NAME_WIDTH * NAME_CHANNELS_OUT];

static int complain(const char *what, const char *of)
{
    fprintf(stderr, "example: %s: %s\n", of, what);
    return 1;
}

int main(int count, char **arguments)
{
    if (count != 3) return complain("IN.ppm OUT.ppm", "give two files");
    FILE *file = fopen(arguments[1], "rb");
    if (!file) return complain("cannot be opened", arguments[1]);
    int kind, width, height, most;
    if (fscanf(file, "P%d %d %d %d", &kind, &width, &height, &most) != 4 || fgetc(file) == EOF ||
        kind != (NAME_CHANNELS_IN == 1 ? 5 : 6) || width != NAME_WIDTH || height != NAME_HEIGHT || most != 255 ||
        fread(in, 1, sizeof in, file) != sizeof in)
        return complain("is no picture of the right kind and size", arguments[1]);
    fclose(file);

    NAME *model;
    int error = NAME_create(&model, 0);
    if (!error) error = NAME_run(model, in, 0, out, 0, 1);
    NAME_destroy(model);
    if (error) return complain(NAME_error(error), "NAME");

    file = fopen(arguments[2], "wb");
    if (!file) return complain("cannot be opened", arguments[2]);
    fprintf(file, "P%d\n%d %d\n255\n", NAME_CHANNELS_OUT == 1 ? 5 : 6, NAME_WIDTH, NAME_HEIGHT);
    const int written = fwrite(out, 1, sizeof out, file) == sizeof out;
    if (fclose(file) || !written) return complain("could not be written", arguments[2]);
    return 0;
}
