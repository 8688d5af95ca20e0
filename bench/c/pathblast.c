/* Path validations with revocation lists a second by OpenSSL: pathblast FOLDER SECONDS. The files are those of
 * bench/paths.sh; what is measured is X509_verify_cert on certificates and lists that are parsed already.
 * Build: cc -O2 -o pathblast pathblast.c -lcrypto */
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static FILE *file(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) { perror(path); exit(1); }
    return f;
}

static X509 *certificate(const char *folder, const char *name) {
    FILE *f = file(folder, name);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    if (!x) { fprintf(stderr, "%s: no certificate\n", name); exit(1); }
    return x;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void once(X509_STORE *store, X509 *leaf, STACK_OF(X509) *between, unsigned long flags) {
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_CTX_init(ctx, store, leaf, between);
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), flags);
    if (X509_verify_cert(ctx) != 1) {
        fprintf(stderr, "%s\n", X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        exit(1);
    }
    X509_STORE_CTX_free(ctx);
}

int main(int argc, char **argv) {
    if (argc < 3) { fprintf(stderr, "pathblast FOLDER SECONDS\n"); return 2; }
    double seconds = atof(argv[2]);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_add_cert(store, certificate(argv[1], "root.pem"));
    double started = now();
    const char *lists[] = {"root.crl", "between.crl"};
    for (int i = 0; i < 2; i++) {
        FILE *f = file(argv[1], lists[i]);
        X509_STORE_add_crl(store, d2i_X509_CRL_fp(f, NULL));
        fclose(f);
    }
    printf("both lists: read in %.2f ms\n", (now() - started) * 1e3);
    STACK_OF(X509) *between = sk_X509_new_null();
    sk_X509_push(between, certificate(argv[1], "between.pem"));
    X509 *leaf = certificate(argv[1], "leaf.pem");
    struct { const char *what; unsigned long flags; } runs[] = {
        {"with lists", X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL},
        {"without lists", 0},
    };
    for (int run = 0; run < 2; run++) {
        once(store, leaf, between, runs[run].flags);
        unsigned done = 0;
        started = now();
        while (now() - started < seconds) {
            for (int i = 0; i < 20; i++) once(store, leaf, between, runs[run].flags);
            done += 20;
        }
        printf("%s: %.0f a second\n", runs[run].what, done / (now() - started));
    }
    return 0;
}
